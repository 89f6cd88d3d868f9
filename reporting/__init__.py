"""The parts of report.py: reading the results, comparing them with the paper, text and pictures. No torch."""

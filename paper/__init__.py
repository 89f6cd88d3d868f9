"""The paper's evaluation: its table of cells, the grid of runs over it, and the report on their results."""

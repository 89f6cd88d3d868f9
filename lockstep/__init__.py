"""Lock step: R runs at once on a GPU; what a step computes for each is what training_step.py computes for one."""

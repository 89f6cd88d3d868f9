"""Programs about the project: speed, a borrowed GPU, networks without their training, a closer look at results."""

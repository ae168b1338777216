"""Training: data, losses, loops and export. Never imported at run time."""

"""New images from the priors: sampling, shaping, classes, completion, grids."""

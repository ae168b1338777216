"""How the papers judge: likelihood, realism, classification accuracy, and distortion."""

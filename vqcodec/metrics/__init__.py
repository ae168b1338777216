"""How the papers judge: distances between sets of images, classifiers, and likelihoods."""

"""Integer priors, wavefront order, frequencies, and the range coder (constriction) behind them."""

"""Integer priors, wavefront order, frequencies, and the range coders behind them."""

"""Measures of a trained model: plain arrays in, numbers out, sums in float64."""

"""What `python -m alikit.evaluate` measures: features, the SVM on few labels, scores of samples, their report."""

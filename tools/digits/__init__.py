"""Makes the digit classifiers in models/: data, network, training and the two exports."""

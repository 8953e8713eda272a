"""A Flower app without torch: logistic regression of scikit-learn on handwritten digits, with compressed updates."""

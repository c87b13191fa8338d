"""One fold of one configuration: its files, resume, training data, validation and cascade."""

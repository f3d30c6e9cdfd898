"""What users give and get: inputs, answers, and the store that holds the big ones."""

"""What an answer is made of: the model, its tools, who it is."""

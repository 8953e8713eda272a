"""What must outlive a process: facts, tensors and generators in files that are there whole or not at all."""

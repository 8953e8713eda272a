"""The server's side: from replies to a step of any Flower strategy, and from a model to what each client is sent."""

"""The client's side: from a message to the app's model, and from the app's reply to an update."""

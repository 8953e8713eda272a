"""What server and client write to each other: orders, models and updates as Flower's records."""

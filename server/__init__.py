"""The server: Flower ServerApp `server.app:app`."""

"""HTTP/2 for a server: connections whose requests others answer. Knows nothing of gRPC."""

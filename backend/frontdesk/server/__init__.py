"""The edge: HTTP and WebSockets in, wire formats chosen by path, bytes out. Nothing here knows tokens or templates."""

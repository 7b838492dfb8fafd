"""The process boundary: messages, the engine's process, and its client in the service's process."""

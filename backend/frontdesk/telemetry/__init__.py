"""What the server tells its operator: log lines. Never the text of a prompt or of an answer."""

"""What the server tells its operator: log lines for now. Never the text of a prompt or of an answer."""

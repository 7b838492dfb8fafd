"""What the server tells its operator: log lines, the last hour in numbers, what went wrong. Never the text of a prompt
or of an answer."""

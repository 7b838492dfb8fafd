"""May you? Keys, visitors' tokens, budgets. Knows no HTTP, no prompt and no engine."""

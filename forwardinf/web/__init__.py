"""The browser's view of Forward-INF: one file per page, thin handlers, pure rendering. Nothing imports this package."""

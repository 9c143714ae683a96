"""Writing apps: templates, lint, and the generator of dummy applications. Used by `jupiter app`, never by an agent."""

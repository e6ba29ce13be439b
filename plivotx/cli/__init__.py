"""The command-line client: asks a server over its API, and checks documents and configurations."""

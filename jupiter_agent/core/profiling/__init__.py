"""What is learned of links, nodes and code: machines and models without I/O (DESIGN.md 96-98)."""

"""The built-in data: drawn scenes and diagrams with questions about them."""

"""A throwaway node in namespaces, and the story told on it."""

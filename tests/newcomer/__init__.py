"""A throwaway plugin, added by the steps of CONTRIBUTING.md; and each step left out."""

"""External models as sources of actions (Eq. 5)."""

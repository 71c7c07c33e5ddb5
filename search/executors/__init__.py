"""Executors evaluate children: one after the other, in processes of their own, or on Ray."""

"""The tasks that a network can be trained for: one small file each, behind the interface of ``base.Task``."""

"""What can be learnt: one small file per task, behind the interface of ``base.Task``."""

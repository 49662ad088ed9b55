"""One self-contained page that shows a design: ``report.html`` in its build folder."""

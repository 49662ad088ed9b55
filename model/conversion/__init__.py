"""From a float network to a weight image: choice of formats, projection to circulant blocks, rounding, report."""

"""Who is measured, where: units and rows, columns of a formula."""

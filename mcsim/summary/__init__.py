"""Numbers of many replicates: per row, between methods, against observed ones."""

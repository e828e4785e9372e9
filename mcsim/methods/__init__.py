"""Ways to analyse a data set, one file each."""

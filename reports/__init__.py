"""Results of a run: measures, figures and the files of its folder."""

"""What a run tells: measures, figures and the files of its folder."""

"""Random programs that compare, against an independent evaluation; and objects that nobody may surprise."""

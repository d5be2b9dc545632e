"""The paper's other ensembles: a recording, and what makes its members differ, as a network of shared weights. One file a method."""

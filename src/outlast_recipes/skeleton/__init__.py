"""Actions from skeletons: LAST on NTU RGB+D, NW-UCLA and UTKinect."""

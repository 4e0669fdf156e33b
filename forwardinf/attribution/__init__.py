"""From a picture to the influence of every training image: the only room that knows all the others below it."""

"""See what a method did: what became of every patch at every reduction point, as a page, a picture or an animation.

token_history.py    plans -> which step took each token out, and into which other one it went; no model, no picture
scene.py    a clip, its answers and history -> everything there is to show
background_images.py, palette.py    the pictures behind the patches, and one set of colours for page and pictures
page.py     a scene -> one HTML file that needs nothing else; its script and style are in page/
picture.py  a scene -> PNG or GIF
"""

"""`framefusion app`: a page on which people drop a clip, ask, and see both answers and what became of every token.

limits.py            how much one visitor may ask for
settings.py          what the page is set to, as a value and as the query of a link
uploads.py           the clips of visitors, each its own, until they are used
reading.py           a clip is fetched and read in a process of its own (read_apart.py), within memory and time
examples.py          clips and questions of the embedded model's world
answering.py         dense and reduced answers, word by word, and where the time went
cards.py             all of it as HTML, with every text from outside escaped
guard.py             what the server answers at all, and how much of a request it reads
layout.py            the page, of Gradio's parts; its style and script are in page/
events.py            what happens when somebody does something on it
server.py            starts and stops it
"""

"""Reports: what a run folder holds, as one HTML file or as text. Nothing here loads torch, unless evaluations are
compared.

reading.py      run folders, as far as they can be read
curves.py       metrics as columns, phases, and which chart shows what
intervals.py    confidence intervals
samples.py      responses and their tokens, packed and thinned
comparison.py   runs grouped by configuration
evaluations.py  evaluations against the first, question by question
page.py         the HTML file, of page.html, the styles and the scripts
text.py         the same in the terminal
"""

"""`foveate cost`: time and memory of attention's forms over growing n, measured on the machine at hand.

`settings` what is asked, `forms` what can be measured, `child` one measurement in a process of its own, `study` all of
them one after another, `store` the file they are kept in, `growth` the exponents, `table` and `chart` what is shown.
"""

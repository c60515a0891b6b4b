import "./blob.test";
import "./color.test";
import "./exact.test";
import "./http.test";
import "./layout.test";
import "./session.test";
import "./state.test";
import "./text.test";
